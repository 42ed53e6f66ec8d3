"""The client over HTTP, its errors, and how SQL is quoted."""
