"""What the README shows is what happens: its commands run, its blocks are real."""
