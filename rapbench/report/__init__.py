"""Tables, figures and statistics: pure functions of the rows that a run stored."""
