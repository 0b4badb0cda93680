// Writes the lines of text that the page shows, with their boxes in CSS pixels, as JSON into the page itself.
const lines = [];
const pageBox = document.documentElement.getBoundingClientRect();

function isShown(box, frame) {
  return [pageBox, frame].every(
    (outer) => box.left >= outer.left && box.right <= outer.right && box.top >= outer.top && box.bottom <= outer.bottom,
  );
}

function addLines(node) {
  const frame = (node.parentElement.closest("[data-window]") ?? document.documentElement).getBoundingClientRect();
  const size = parseFloat(getComputedStyle(node.parentElement).fontSize);
  const range = document.createRange();
  let line = null;
  for (let at = 0; at < node.data.length; at += 1) {
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    const box = range.getBoundingClientRect();
    if (box.width === 0) {
      // A collapsed space, or the second half of an Arabic ligature.
      if (line) line.text += node.data[at];
      continue;
    }
    if (!line || box.top > line.top + box.height / 2) {
      line = { text: "", left: box.left, top: box.top, right: box.right, bottom: box.bottom, size, frame };
      lines.push(line);
    }
    line.text += node.data[at];
    line.left = Math.min(line.left, box.left);
    line.right = Math.max(line.right, box.right);
  }
}

const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  if (walker.currentNode.data.trim()) addLines(walker.currentNode);
}
// Relative to the page: one that runs from right to left stands at the right edge of a window that is wider than it.
const found = lines
  .filter((line) => isShown(line, line.frame))
  .map(({ text, size, left, top, right, bottom }) => ({
    text,
    size,
    left: left - pageBox.left,
    right: right - pageBox.left,
    top: top - pageBox.top,
    bottom: bottom - pageBox.top,
  }));
const sheet = document.createElement("pre");
sheet.id = "lines";
sheet.hidden = true;
sheet.textContent = JSON.stringify(found);
document.body.append(sheet);
