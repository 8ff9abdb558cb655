// The buttons of lists: what was pressed goes to Python as a click with the deed and the item.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const { act, item, value, link } = button.dataset;
  if (act === "link") {
    const address = new URL(link, document.baseURI).href;
    const copied = () => { button.textContent = "Copied"; };
    const offered = () => { window.prompt("The address of this list:", address); };
    // Browsers offer the clipboard on localhost and over HTTPS alone.
    if (navigator.clipboard) navigator.clipboard.writeText(address).then(copied, offered);
    else offered();
    return;
  }
  if (act === "why") {
    const because = button.closest("li").querySelector(".because");
    because.hidden = !because.hidden;
    button.setAttribute("aria-expanded", String(!because.hidden));
    return;
  }
  const rows = [...element.querySelectorAll(".items > li")];
  const place = rows.indexOf(button.closest("li"));
  element.pressed = { place, act, value, scrolled: rows[0]?.parentElement.scrollTop };
  trigger("click", { act, item, value });
});
// The list that comes back replaces the one that was scrolled, and the button that had the focus: give it to the same
// button of the row in its place.
watch("value", () => {
  if (element.pressed === undefined) return;
  const { place, act, value, scrolled } = element.pressed;
  const rows = element.querySelectorAll(".items > li");
  const row = rows[Math.min(Math.max(place, 0), rows.length - 1)];
  element.pressed = undefined;
  if (rows.length) rows[0].parentElement.scrollTop = scrolled ?? 0;
  if (document.activeElement !== document.body) return;
  const buttons = [...(row?.querySelectorAll("button") ?? [])];
  const same = buttons.find(({ dataset }) => dataset.act === act && dataset.value === value);
  (same ?? buttons[0])?.focus({ preventScroll: true });
});
// A file goes to Python inside an event, since the server takes no uploads.
element.addEventListener("change", (event) => {
  const input = event.target.closest("input[type=file]");
  const file = input?.files[0];
  if (!file) return;
  const said = element.querySelector("[data-said]");
  const largest = Number(input.dataset.largest);
  input.value = "";
  if (file.size > largest) {
    said.textContent = `${file.name} has ${file.size} bytes; at most ${largest} are read.`;
    return;
  }
  said.textContent = "";
  const reader = new FileReader();
  reader.onload = () => trigger("upload", { name: file.name, content: reader.result.split(",")[1] ?? "" });
  reader.onerror = () => { said.textContent = `${file.name} can't be read.`; };
  reader.readAsDataURL(file);
});
