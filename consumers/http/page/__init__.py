"""The web page: one box, one look, an answer in words; with scripts off as well as on."""
