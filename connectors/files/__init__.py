"""Files of rows: CSV, JSON lines and Parquet, read and written with bounded memory."""
