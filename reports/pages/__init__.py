"""What is written to disk: pages and the files beside them."""
