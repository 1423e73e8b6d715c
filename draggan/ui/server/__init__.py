"""What stands between the network and the page: who may ask for what, how often, and what becomes of files."""
