"""The agent on the box: sessions, time, alerts, the spool on disk and the uplink."""
