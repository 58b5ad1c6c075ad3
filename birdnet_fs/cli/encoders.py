"""`birdnet-fs encoders`: list of the known encoders, and inspection of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.errors import UserError

if TYPE_CHECKING:
    from birdnet_fs.encoders.inspection import FileFacts


def encoders(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A .tflite or .onnx file to inspect; without it, a list.")
    ] = None,
    card: Annotated[str, typer.Option(help="Name of a card, or a .json card, that FILE is compared with.")] = "",
    sample_rate_hz: Annotated[
        int, typer.Option("--sample_rate", help="For a card of your own: sample rate of the waveforms in Hz.")
    ] = 0,
    segment_s: Annotated[float, typer.Option("--segment", help="For a card of your own: window in seconds.")] = 0.0,
    embedding: Annotated[
        str,
        typer.Option(
            help="For a card of your own: name of the output with the embedding, or before_last_dense for the input "
            "of the last fully connected layer of a .tflite file."
        ),
    ] = "",
    normalization: Annotated[
        str, typer.Option(help="For a card of your own: none, or peak_0.25 for each window.")
    ] = "none",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="For a card of your own: the .json file to write.")
    ] = None,
) -> None:
    """List the encoders whose files can be used, with their licenses, or inspect FILE.

    An encoder is a network of another project, in a file that you have; nothing is downloaded. FILE is compared with
    the cards of the list; if none of them fits, describe it in a card of your own with --sample_rate, --segment,
    --embedding and -o CARD.json.
    """
    from birdnet_fs.encoders.cards import CARDS
    from birdnet_fs.encoders.inspection import choose_card, inspect_file

    if file is None:
        if card or output or sample_rate_hz or segment_s or embedding:
            raise UserError("These options describe a file; give the encoder: birdnet-fs encoders FILE ...")
        print(f"{'name':14} {'files':12} {'rate Hz':>7} {'window s':>8} {'embedding':>9}  license")
        for each in CARDS.values():
            print(
                f"{each.name:14} {', '.join(each.formats):12} {each.sample_rate_hz:7d} {each.segment_s:8g} "
                f"{each.width:9d}  {each.license}"
            )
            print(f"{'':14} {each.title}. Files: {each.obtain}")
            print(f"{'':14} {each.source}")
        print("\nAny other .tflite or .onnx encoder: birdnet-fs encoders FILE (a card of your own).")
        return
    facts = inspect_file(file)
    print(f"{file}: {facts.format}, {file.stat().st_size / 1e6:.1f} MB, SHA-256 {facts.sha256}")
    for kind, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for tensor in tensors:
            print(f"  {kind}: {tensor}")
    if facts.inner is not None:
        print(f"  input of the last fully connected layer: {facts.inner}")
    if output is not None:
        _write_own_card(facts, sample_rate_hz, segment_s, embedding, normalization, output)
        card = str(output)
    chosen = choose_card(facts, card)
    print(f"  card: {chosen.name} ({chosen.title}): {chosen.segment_s:g} s at {chosen.sample_rate_hz} Hz, ", end="")
    print(f"{chosen.width} values, normalization {chosen.normalization}")
    print(f"  license: {chosen.license}")


def _write_own_card(
    facts: "FileFacts", sample_rate_hz: int, segment_s: float, embedding: str, normalization: str, output: Path
) -> None:
    """Write the card that the options describe, if it fits the file."""
    from birdnet_fs.core.files import write_json
    from birdnet_fs.encoders.cards import BEFORE_LAST_DENSE, EncoderCard
    from birdnet_fs.encoders.inspection import mismatches

    if output.suffix.lower() != ".json":
        raise UserError(f"A card is a .json file; give -o CARD.json. Received: {output}")
    if not sample_rate_hz or not segment_s:
        raise UserError("A card of your own needs --sample_rate HZ and --segment S; a file does not state them.")
    choices = {tensor.name: tensor for tensor in facts.outputs}
    if facts.inner is not None:
        choices[BEFORE_LAST_DENSE] = facts.inner
    if embedding not in choices:
        raise UserError(f"--embedding must be {' or '.join(map(repr, choices))}. Received: {embedding!r}")
    width = choices[embedding].width
    if width < 1:
        raise UserError(f"{embedding!r} must have a fixed number of values. Received: {choices[embedding]}")
    own = EncoderCard(
        name=output.stem,
        title=facts.path.name,
        formats=(facts.format,),
        sample_rate_hz=sample_rate_hz,
        segment_s=segment_s,
        width=width,
        embedding=embedding,
        normalization=normalization,
    )
    wrong = mismatches(facts, own)
    if wrong:
        raise UserError(f"This card would not fit {facts.path}: {'; '.join(wrong)}.")
    write_json(output, own.to_json())
    print(f"  card written: {output}")
