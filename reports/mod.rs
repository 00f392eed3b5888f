//! What we conclude: statistics, verdicts, tables, plots and the page, from the records of runs alone.
