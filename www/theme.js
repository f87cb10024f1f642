/** The theme, set before the page is shown: "light" or "dark", else that of the system. */

const systemIsDark = matchMedia("(prefers-color-scheme: dark)")

function applyTheme() {
	let theme = ""
	try {
		theme = localStorage.getItem("theme") ?? ""
	} catch {
		// storage is blocked
	}
	const root = document.documentElement
	root.dataset.theme = theme
	// for Swagger UI
	root.classList.toggle("dark-mode", theme ? theme === "dark" : systemIsDark.matches)
}

applyTheme()
systemIsDark.addEventListener("change", applyTheme)
addEventListener("storage", applyTheme) // another tab has changed it
addEventListener("theme", applyTheme)
