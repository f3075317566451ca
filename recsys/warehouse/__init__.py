"""The published tables: written aside, audited, swapped in; read by short questions."""
