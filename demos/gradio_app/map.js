// Zoom, search and titles of the factor map, whose SVG matplotlib has drawn.
const svg = element.querySelector(".map svg");
const said = element.querySelector("[data-said]");
if (svg) {
  const { x, y, width, height } = svg.viewBox.baseVal;
  const whole = { x, y, width, height };
  const MOST = 12;
  const view = { ...whole };
  const points = [...svg.querySelectorAll("g")]
    .map((group) => ({ group, title: group.querySelector(":scope > title")?.textContent, use: group.querySelector("use") }))
    .filter((point) => point.title && point.use)
    .reverse(); // the most rated, which are drawn last, come first
  const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const within = (value, low, high) => Math.min(Math.max(value, low), high);

  // Points and labels grow less than the distances between them.
  const drawPoints = () => {
    const grow = Math.sqrt(view.width / whole.width);
    const narrow = svg.getBoundingClientRect().width < 430 ? 1.8 : 1;
    svg.style.setProperty("--grow", String(grow));
    for (const { group, use } of points) {
      const [x, y] = [use.getAttribute("x"), use.getAttribute("y")];
      const size = grow * narrow * (group.classList.contains("hit") ? 2.2 : 1);
      use.setAttribute("transform", `translate(${x} ${y}) scale(${size}) translate(${-x} ${-y})`);
    }
  };
  const show = () => {
    view.width = within(view.width, whole.width / MOST, whole.width);
    view.height = (view.width * whole.height) / whole.width;
    view.x = within(view.x, whole.x, whole.x + whole.width - view.width);
    view.y = within(view.y, whole.y, whole.y + whole.height - view.height);
    svg.setAttribute("viewBox", [view.x, view.y, view.width, view.height].join(" "));
    svg.classList.toggle("zoomed", view.width < whole.width);
    drawPoints();
  };
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return {
      x: view.x + ((event.clientX - box.left) / box.width) * view.width,
      y: view.y + ((event.clientY - box.top) / box.height) * view.height,
    };
  };
  const zoom = (factor, at) => {
    const before = view.width;
    view.width = within(view.width / factor, whole.width / MOST, whole.width);
    const share = view.width / before;
    view.x = at.x - (at.x - view.x) * share;
    view.y = at.y - (at.y - view.y) * share;
    show();
  };
  const middle = () => ({ x: view.x + view.width / 2, y: view.y + view.height / 2 });
  const centre = (point) => ({ x: Number(point.use.getAttribute("x")), y: Number(point.use.getAttribute("y")) });

  element.querySelector("[data-zoom=in]").addEventListener("click", () => zoom(1.6, middle()));
  element.querySelector("[data-zoom=out]").addEventListener("click", () => zoom(1 / 1.6, middle()));
  element.querySelector("[data-zoom=all]").addEventListener("click", () => { Object.assign(view, whole); show(); });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), place(event));
  }, { passive: false });

  const pointers = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    if (pointers.size === 1) moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const apart = () => {
      const [one, other] = [...pointers.values()];
      return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    };
    const was = pointers.size === 2 ? apart() : 0;
    const [from, to] = [place(before), place(event)];
    moved += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      zoom(apart() / was, to);
    } else if (view.width < whole.width) {
      view.x += from.x - to.x;
      view.y += from.y - to.y;
      show();
    }
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    svg.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  svg.addEventListener("click", (event) => {
    if (moved > 6) return;
    const at = place(event);
    const far = (point) => Math.hypot(centre(point).x - at.x, centre(point).y - at.y);
    const nearest = points.reduce((best, point) => (far(point) < far(best) ? point : best), points[0]);
    const pixels = (far(nearest) * svg.getBoundingClientRect().width) / view.width;
    said.textContent = pixels < 24 ? nearest.title : "";
  });

  const search = element.querySelector("input[type=search]");
  const find = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    const found = words.length ? points.filter((point) => words.every((word) => fold(point.title).includes(word))) : [];
    for (const point of points) point.group.classList.toggle("hit", found.includes(point));
    svg.classList.toggle("dimmed", found.length > 0);
    drawPoints();
    const first = found.slice(0, 3).map((point) => point.title).join("; ");
    said.textContent = !words.length ? "" : found.length ? first + (found.length > 3 ? `; and ${found.length - 3} more` : "") : "Nothing on the map is called so.";
    return found;
  };
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const [first] = find();
    if (!first) return;
    view.width = whole.width / 3;
    show();
    Object.assign(view, { x: centre(first).x - view.width / 2, y: centre(first).y - view.height / 2 });
    show();
  });
  new ResizeObserver(drawPoints).observe(svg);
  show();
}
