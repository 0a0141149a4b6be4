"""The audit trail: numbered rows, each bound to the one before it by a hash. docs/audit.md says what that proves."""
