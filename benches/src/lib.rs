//! Criterion benches of the platform; each file beside this folder is one bench. The library itself is empty: it gives
//! the benches a package. Nothing here runs in production.
