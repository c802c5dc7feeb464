"""What a run says of itself: events in, log lines, JSON and progress bars out."""
