"""The command line: translates and displays; no rule of the engine lives here."""
