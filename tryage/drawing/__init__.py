"""How results are drawn: charts, short names, safe text, and tables for notebooks.

`charts` needs the extra `report`; the rest needs nothing.
"""
