"""Names for screen readers, where Gradio's parts have none or say something else than they show.

The tests' axe-core found them; each line goes when Gradio mends its part.
"""

NAMING = """<script>
function nameParts() {
  for (const button of document.querySelectorAll("button:has(> .image-frame):not([aria-label])")) {
    const label = button.closest(".block")?.querySelector("[data-testid=block-label]");
    button.ariaLabel = label?.textContent.trim() || "Picture";
  }
  for (const empty of document.querySelectorAll(".empty[aria-label]")) empty.role = "img";
  const shown = "button.upload-container[aria-label], button.layer-title-button[aria-label]";
  for (const button of document.querySelectorAll(shown)) button.removeAttribute("aria-label");
}
let isNaming = 0;
new MutationObserver(() => {
  cancelAnimationFrame(isNaming);
  isNaming = requestAnimationFrame(nameParts);
}).observe(document, { childList: true, subtree: true });
</script>"""
