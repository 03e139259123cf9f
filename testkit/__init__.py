"""What tests and benchmarks both start: databases, broken networks, hostile connections.

It knows neither of them, so that a benchmark never rests on a test.
"""
