"""Write equations as MathML, which browsers draw without scripts and without a network connection."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.util.math import get_node_equation_number

_PLAIN = {r"\lVert": r"\|", r"\rVert": r"\|", r"\arg": r"\operatorname{arg}"}  # which the converter does not know


def mathml(latex, display="inline"):
    """Return an equation in LaTeX as MathML."""
    for command, plain in _PLAIN.items():
        latex = latex.replace(command, plain)
    if display == "block" and r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}} {latex} \end{{aligned}}"
    return convert(latex, display=display)


def visit_math(translator, node):
    """Write an equation inside a line."""
    translator.body.append(mathml(node.astext()))
    raise SkipNode


def visit_displaymath(translator, node):
    """Write an equation on a line of its own, with its number if it has one."""
    number = f"({get_node_equation_number(translator, node)})" if node.get("number") else ""
    translator.body.append(f'<div class="equation">{mathml(node.astext(), "block")}{number}</div>')
    raise SkipNode


def setup(app):
    """Add the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_displaymath, None))
    return {"parallel_read_safe": True}
