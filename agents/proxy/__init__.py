"""The cascade's proxy: a small classifier that is taught by the model's labels."""
