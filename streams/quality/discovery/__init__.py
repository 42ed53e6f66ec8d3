"""What is new: rows that the labels do not fit, grouped by their texts, and made a label."""
