"""Methods against one another: design, experiments, tables, figure."""
