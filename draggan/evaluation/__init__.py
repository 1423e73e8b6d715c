"""How well does dragging work, measured: landmark manipulation, reconstruction, there and back, masks, quality.

``python -m draggan evaluate`` runs it; `draggan.evaluation.protocols` says what each protocol does.
"""
