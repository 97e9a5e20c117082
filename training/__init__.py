"""The offline half: turns normal images into one artifact folder."""
