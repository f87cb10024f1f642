"""Who is let in: passwords, sessions, one-time passwords, rate limits, and the audit trail."""
