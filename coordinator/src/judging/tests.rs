//! A store with windows, and what is said of it.
