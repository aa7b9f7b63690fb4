"""Several recipes trained, timed together and compared. Read `run` first."""
