"""Processing of every request and response: validation, CORS, CSRF, errors, headers, files."""
