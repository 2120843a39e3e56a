"""The store: one SQLite file for one job file. Table and column names are a public interface (docs/store.md)."""
