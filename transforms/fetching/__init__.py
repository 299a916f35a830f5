"""Reading the files that manifest rows point at: guarded, limited, retried, and never losing a row."""
