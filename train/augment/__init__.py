"""Augmentation of training windows' sound before the front-end: rooms, noise, channels, codecs, RawBoost.

Every transform is a small frozen object, `transform(sound, dice) -> sound`: float32 samples of one clip in, as many
out, and everything random comes from `dice`, a numpy generator. `chain.py` puts them in the order of the real way from
a mouth to a detector; `python -m scripts.augmentation_pictures` draws them.
"""

# The names that the command line knows; here, because checking them must not load what does the work.
CODECS = ("alaw", "mulaw", "gsm", "adpcm", "opus", "vorbis", "mp3", "g722", "amr")
RAWBOOST = ("lnl", "isd", "ssi")
RESAMPLE = ("48000", "44100", "32000", "24000", "22050", "8000")  # Hz
VOCODERS = ("lyra", "world", "lpc", "griffin-lim")
LYRA = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")  # its models' files
