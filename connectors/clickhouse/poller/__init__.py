"""From the source table to `esk.rows`: pages, identities, messages, the cursor."""
