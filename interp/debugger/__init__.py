"""Ask a model why, in the browser: pure functions from a question to records, and (api, page) ways
to call them."""
