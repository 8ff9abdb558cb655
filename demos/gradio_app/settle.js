// When a tab or "Options" opens, Gradio gives its components their first values once more, a frame after they are
// there. What is entered before would be lost, so they are inert until then.
new MutationObserver((changes) => {
  const built = changes
    .flatMap(({ addedNodes }) => [...addedNodes])
    .filter((node) => node instanceof HTMLElement && !node.closest(".recsys") && node.querySelector("input, textarea, button"));
  if (!built.length) return;
  for (const node of built) node.inert = true;
  const release = () => { for (const node of built) node.inert = false; };
  requestAnimationFrame(() => requestAnimationFrame(release));
}).observe(document, { childList: true, subtree: true });
