"""Result tables and their columns: DDL, types, grants, migrations."""
