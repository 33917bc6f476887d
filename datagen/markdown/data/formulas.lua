-- Adds what pandoc makes of each formula in Typst to the document: one entry per formula, in `meta.formulas`.
-- All of them are written in one go, because a writer takes a millisecond to start.
local MARK = 'formula-ends-here'

local FONTS = { rm = 'mathrm', bf = 'mathbf', it = 'mathit', cal = 'mathcal', sf = 'mathsf', tt = 'mathtt' }
local DEEPEST = 50 -- braces in braces; Lua's own stack ends at 200

local function with_fonts(tex, depth) -- pandoc does not read {\rm x}, only {\mathrm{x}}
  return (tex:gsub('%b{}', function(group)
    local inside = depth < DEEPEST and with_fonts(group:sub(2, -2), depth + 1) or group:sub(2, -2)
    local name, rest = inside:match('^%s*\\(%a+)%s*(.*)$')
    return FONTS[name] and '{\\' .. FONTS[name] .. '{' .. rest .. '}}' or '{' .. inside .. '}'
  end))
end

local function bare(tex) -- numbers and labels are no part of what is typeset
  return (with_fonts(tex, 0):gsub('\\label%s*%b{}', ''):gsub('\\tag%*?%s*%b{}', ''):gsub('\\nonumber', ''):gsub('\\notag', ''))
end

function Pandoc(doc)
  local keys, blocks, seen = {}, {}, {}
  doc:walk {
    Math = function(formula)
      local key = formula.mathtype .. ' ' .. formula.text
      if not seen[key] then
        seen[key] = true
        keys[#keys + 1] = pandoc.MetaString(key)
        blocks[#blocks + 1] = pandoc.Plain { pandoc.Math(formula.mathtype, bare(formula.text)) }
        blocks[#blocks + 1] = pandoc.RawBlock('typst', MARK)
      end
    end,
  }
  doc.meta['formula-keys'] = pandoc.MetaList(keys)
  doc.meta['formulas'] = pandoc.MetaString(pandoc.write(pandoc.Pandoc(blocks), 'typst', { wrap_text = 'none' }))
  return doc
end
