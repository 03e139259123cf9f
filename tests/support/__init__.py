"""What tests of several parts share: clocks, builders, databases. No test is in here."""
