"""Files of rows: CSV, JSON lines, Parquet and workbooks, understood, read and written."""
