"""Uploads, exports and fetches as jobs."""
