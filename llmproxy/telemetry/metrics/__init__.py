"""What is counted, how it is kept, and how it is shown: the one home of aioprometheus."""
