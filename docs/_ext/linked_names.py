"""Link every public name that a page writes in backticks to its entry in the API reference."""

from api_pages import public_names
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class LinkedNames(SphinxTransform):
    """Replace the first mention of a public name in each section by a link."""

    default_priority = 700

    def apply(self):
        """Go through the inline code of a page, unless it is generated."""
        if self.env.docname.startswith(("api/", "gallery/")):
            return
        targets = {name: f"{module}.{name}" for module, names in public_names().items() for name in names}
        linked = set()
        for literal in list(self.document.findall(nodes.literal)):
            target = targets.get(literal.astext().removesuffix("()"))
            place = (target, id(_section(literal)))
            if target and place not in linked and not isinstance(literal.parent, nodes.reference | nodes.title):
                linked.add(place)
                literal.replace_self(self.reference(literal, target))

    def reference(self, literal, target):
        """Return a reference to a name, which Sphinx resolves."""
        options = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refexplicit": True, "refwarn": True}
        return addnodes.pending_xref("", literal.deepcopy(), refdoc=self.env.docname, **options)


def _section(node):
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return node


def setup(app):
    """Add the transform."""
    app.add_transform(LinkedNames)
    return {"parallel_read_safe": True}
