"""Campaign of faults: kills, damaged files and generated input, each survived or refused."""
