"""The promises of the ports, one test each, by subject. `wfe.testing` makes classes of them."""
