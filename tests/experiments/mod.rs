//! Experiment files, and the program that runs them.

mod file;
