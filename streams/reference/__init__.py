"""Documents made from the declarations: JSON Schema, AsyncAPI, pages."""
