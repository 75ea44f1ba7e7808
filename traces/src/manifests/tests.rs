//! Tests of the whole reader: small dumps, and what is wrong with others.
