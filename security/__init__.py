"""Security: passwords, sessions, the second factor, rate limits, and the audit trail."""
