"""What the engine asks of the outside: protocols whose docstrings are the contract."""
