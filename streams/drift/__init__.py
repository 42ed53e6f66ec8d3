"""Whether labels, texts and the model are as they were: hours against a reference, texts asked again."""
