"""The flow as ODEs over a clock, solved by diffrax."""
