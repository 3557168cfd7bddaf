"""Speeds and sizes, measured on the machine at hand; `make bench` prints the table of docs/benchmarks.md."""
