"""What tests and benchmarks share: servers, pictures, tiny artifacts, hostile files."""
