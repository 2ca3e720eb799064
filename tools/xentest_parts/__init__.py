"""The parts of xentest: the tests, run in machines of every kind by tools/xenvm."""
